import { runProgram } from './exit.ts';
import { asUsage, type Offline } from './explain.ts';
import { explainOffline } from './explain-offline.ts';

/** `explainOffline` to its end, errors too: bundled for itself, it has error classes of its own. */
export const explainApart: Offline = (...question) =>
  runProgram('margayctl', () => asUsage(() => explainOffline(...question)));
