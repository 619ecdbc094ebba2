import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CniError } from '../../../src/cni/error.ts';
import { parseBody, requestLength, writeRequest } from '../../../src/cni/framing.ts';
import { endpointName, hostDeviceName } from '../../../src/cni/names.ts';
import { parseRequest } from '../../../src/cni/request.ts';
import { conf, request } from '../../unit/cni/fakes.ts';

/** Anything refused is refused with an error that the runtime can read. */
function acceptsOrRefuses(raw: { env: Record<string, string>; stdin: string }): void {
  try {
    parseRequest(raw);
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown;
    expect([1, 2, 4, 6, 7]).toContain(thrown.code);
    expect(thrown.message.length).toBeGreaterThan(0);
  }
}

const verb = fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION', 'X');

test('no environment and no input does more than be refused', () => {
  const names = ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_ARGS', 'CNI_PATH'];
  const env = fc.dictionary(fc.constantFrom(...names), fc.string({ unit: 'binary' }));
  fc.assert(
    fc.property(verb, env, fc.string(), (CNI_COMMAND, rest, stdin) =>
      acceptsOrRefuses({ env: { ...rest, CNI_COMMAND }, stdin }),
    ),
  );
});

test('no configuration does more than be refused', () => {
  const keys = [
    ...Object.keys(conf),
    'mtu',
    'args',
    'nodename',
    'prevResult',
    'policy_setup_timeout_seconds',
    'runtimeConfig',
  ];
  const change = fc.dictionary(fc.oneof(fc.constantFrom(...keys), fc.string()), fc.jsonValue());
  fc.assert(
    fc.property(verb, change, (command, changed) => acceptsOrRefuses(request(command, { conf: changed }))),
    { numRuns: 1000 },
  );
});

test('requests survive framing', () => {
  const env = fc.dictionary(
    fc.string().filter((name) => name !== '__proto__'),
    fc.string(),
  );
  fc.assert(
    fc.property(env, fc.string({ unit: 'grapheme' }), (variables, stdin) => {
      const sent = writeRequest({ env: variables, stdin });
      expect(requestLength(sent)).toBe(sent.length - 4);
      expect(parseBody(sent.subarray(4))).toEqual({ env: variables, stdin });
    }),
  );
});

test('different pods have different endpoint names, and devices fit the kernel', () => {
  const name = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?$/);
  fc.assert(
    fc.property(fc.tuple(name, name), fc.tuple(name, name), ([nodeA, podA], [nodeB, podB]) => {
      const same = nodeA === nodeB && podA === podB;
      expect(endpointName(nodeA, podA, 'eth0') === endpointName(nodeB, podB, 'eth0')).toBe(same);
      expect(hostDeviceName('cali', nodeA, podA)).toMatch(/^cali[0-9a-f]{11}$/);
    }),
  );
});
