import { beforeAll, describe, expect, test } from 'vitest';
import { build, kernelState, lab, namesOfLabs } from './support.ts';

const fresh = namesOfLabs();

beforeAll(build);

describe('npm run lab -- --once', () => {
  test.each([
    ['IPv4 behind BIRD', []],
    ['both families', ['--family', 'dual']],
    ['IPv6 alone', ['--family', 'v6', '--nodes', '2']],
    ['VXLAN without BGP', ['--encap', 'vxlan', '--tor', 'none', '--family', 'dual', '--nodes', '2']],
    ['VXLAN beside BGP', ['--encap', 'vxlan', '--nodes', '2']],
    ['CrossSubnet on one subnet without BGP', ['--encap', 'crosssubnet', '--tor', 'none', '--nodes', '2']],
  ])('%s', async (_, options) => {
    const name = fresh('a');
    const before = await kernelState(name);
    const { code, stdout, stderr } = await lab('--once', '--name', name, ...options);
    expect(stdout).not.toContain('FAIL');
    expect(stdout).toContain('PASS  only clients reach the web servers');
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    expect(await kernelState(name)).toEqual(before);
  });

  test('two at the same time, which name themselves: behind FRR, and without a ToR with three pods a node', async () => {
    const before = await kernelState(fresh('e'));
    const results = await Promise.all([
      lab('--once', '--nodes', '2', '--tor', 'frr'),
      lab('--once', '--nodes', '2', '--tor', 'none', '--pods', '3'),
    ]);
    for (const { code, stdout, stderr } of results) {
      expect(stdout).not.toContain('FAIL');
      expect(stdout).toContain('PASS  only clients reach the web servers');
      expect(code, `${stdout}\n${stderr}`).toBe(0);
      const [, name = ''] = /Lab "([^"]+)"/.exec(stdout) ?? [];
      expect(name).not.toBe('');
      expect(await kernelState(name)).toEqual(before);
    }
  });
});
