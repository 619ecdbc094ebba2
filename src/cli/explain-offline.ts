import { createLog } from '../base/log.ts';
import type { AnyQuestion } from '../policy/ends.ts';
import { answerAny } from '../policy/service-question.ts';
import { clusterOfFiles, clusterOfStore } from './cluster-objects.ts';
import { ExitError, exitCode } from './exit.ts';
import { anyPage } from './explain-service-page.ts';
import { type Format, print } from './output.ts';

/** Prints the answer from files, or without any from the datastore. @throws InputError, StoreUnavailableError, ExitError */
export async function explainOffline(
  question: AnyQuestion,
  files: readonly string[] | undefined,
  namespace: string,
  format: Format,
): Promise<void> {
  const cluster = files ? await clusterOfFiles(files, namespace) : await clusterOfStore();
  const found = answerAny(cluster, question, createLog('margayctl', 'silent'));
  print(format, found, () => anyPage(found));
  if (found.verdict !== 'allow') throw new ExitError(exitCode.failure, '');
}
