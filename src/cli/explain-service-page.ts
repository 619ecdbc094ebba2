import type { Probed } from '../felix/explain/probe.ts';
import type { AnyAnswer, ServiceAnswer } from '../policy/service-question.ts';
import { explainPage, past, probeLines, sideText, transportText } from './explain-page.ts';

/** The page of `margayctl explain`, about a service or anything else. Pure. */
export function anyPage(answer: AnyAnswer & { readonly probe?: Probed }): string {
  return 'service' in answer ? servicePage(answer) : explainPage(answer);
}

/** First how it goes to each endpoint, then why, page by page. */
function servicePage(answer: ServiceAnswer & { readonly probe?: Probed }): string {
  const { service, source, endpoints, verdict, problems, probe } = answer;
  const { namespace, name, address, protocol, port, portName } = service;
  const at = address === undefined ? ' (headless)' : ` (${address})`;
  const on = `${protocol} ${port}${portName === undefined ? '' : ` (${portName})`}`;
  const allowed = endpoints.filter((each) => each.verdict === 'allow').length;
  return [
    `${sideText(source)} -> service ${namespace}/${name}${at}, ${on}: ${summary[verdict]}, ${allowed} of ${endpoints.length} endpoints`,
    ...(address === undefined
      ? []
      : [
          "kube-proxy puts an endpoint in the place of the service's address before policy is asked, so policy sees the endpoint",
        ]),
    ...endpoints.map(
      ({ destination, transport, verdict: each }) =>
        `  ${past(each)}: ${sideText(destination)}, ${transportText(transport)}`,
    ),
    ...problems.map((problem) => `! ${problem}`),
    ...(probe ? probeLines(probe, verdict) : []),
    '',
    ...endpoints.map((each) => explainPage(each)),
  ].join('\n');
}

const summary = { allow: 'allowed', deny: 'denied', mixed: 'allowed to some' };
