import { createLog } from '../base/log.ts';
import type { AnyQuestion } from '../policy/ends.ts';
import { type AnyAnswer, answerAny } from '../policy/service-question.ts';
import { clusterOfFiles, clusterOfStore } from './cluster-objects.ts';

/** The answer from files, or without any from the datastore. @throws InputError, StoreUnavailableError */
export async function explainOffline(
  question: AnyQuestion,
  files: readonly string[] | undefined,
  namespace: string,
): Promise<AnyAnswer> {
  const cluster = files ? await clusterOfFiles(files, namespace) : await clusterOfStore();
  return answerAny(cluster, question, createLog('margayctl', 'silent'));
}
