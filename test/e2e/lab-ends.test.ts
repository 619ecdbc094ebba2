import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { errorCode } from '../../src/base/errors.ts';
import { build, dist, finish, type KernelState, kernelState, lab, labName, namesOfLabs, startLab } from './support.ts';

const fresh = namesOfLabs();

beforeAll(build);

/** With the processes that the lab started, without what these start for a moment. */
function standing(state: KernelState): KernelState {
  return { ...state, processes: state.processes.filter(leadsSession) };
}

/** The lab starts each in a session of its own. */
function leadsSession(pid: number): boolean {
  try {
    // Fields 3 to 6 of proc_pid_stat(5): state, parent, group, session.
    const [, , , session] = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /, '')
      .split(' ');
    return Number(session) === pid;
  } catch (thrown) {
    // It has ended.
    if (['ENOENT', 'ESRCH'].includes(errorCode(thrown) ?? '')) return false;
    throw thrown;
  }
}

describe('taking down', () => {
  test('after a crash in the middle, --down leaves nothing; once more it says there is nothing', async () => {
    const name = fresh('b');
    const before = await kernelState(name);
    const run = startLab('--name', name, '--nodes', '2');
    await run.seen('etcd answers');
    run.child.kill('SIGKILL');
    await run.ended;
    const first = await lab('--down', '--name', name);
    expect(first.stdout).toMatch(/Removed \d+ processes, \d+ namespaces and the files/);
    expect(await kernelState(name)).toEqual(before);
    const second = await lab('--down', '--name', name);
    expect([second.code, second.stdout]).toEqual([0, `There is no lab "${name}".\n`]);
  });

  test('Ctrl-C in the middle removes everything', async () => {
    const name = fresh('c');
    const before = await kernelState(name);
    const run = startLab('--name', name, '--nodes', '2');
    await run.seen('etcd answers');
    run.child.kill('SIGINT');
    // Once more, as npm passes it on beside the terminal, and people are impatient.
    await run.seen('interrupted; removing everything');
    run.child.kill('SIGINT');
    expect(await run.ended).toBe(130);
    expect(run.output()).toContain('interrupted; everything is removed again');
    expect(await kernelState(name)).toEqual(before);
  });

  test('when nobody reads what it prints, everything is removed', async () => {
    const name = fresh('p');
    const before = await kernelState(name);
    const command = `'${process.execPath}' '${join(dist, 'lab.js')}' --name ${name} --nodes 1 --pods 1 --tor none | true`;
    const { stderr } = await finish('sh', ['-c', command]);
    expect(stderr).toContain('the output cannot be written (write EPIPE); everything is removed again');
    expect(await kernelState(name)).toEqual(before);
  });

  test('a lab that is up is not brought up again, and taking another down leaves it alone', async () => {
    const name = fresh('d');
    const options = ['--name', name, '--nodes', '1', '--pods', '1', '--tor', 'none'];
    const up = await lab(...options);
    expect(up.code, up.stdout + up.stderr).toBe(0);
    const before = standing(await kernelState(name));
    expect(before.processes.length).toBeGreaterThanOrEqual(3);
    const again = await lab(...options);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain(`there is a lab "${name}" already; use it`);
    await lab('--down', '--name', name.slice(0, -1));
    expect(standing(await kernelState(name))).toEqual(before);
    const status = await lab('--name', name, 'ctl', 'get', 'pods', '-A', '-o', 'json');
    expect(JSON.parse(status.stdout).items).toHaveLength(1);
    const route = await lab('--name', name, 'exec', 'shop/web-1', '--', 'ip', 'route');
    expect(route.stdout).toContain('default via 169.254.1.1 dev eth0');
  });
});

test('without the capabilities it needs, the lab says so and makes nothing', async () => {
  for (const args of [['--once'], ['--down'], ['ctl', 'status'], ['exec', 'n1', 'true']]) {
    const command = ['--bounding-set=-all', '--inh-caps=-all', process.execPath, join(dist, 'lab.js'), ...args];
    const { code, stdout, stderr } = await finish('setpriv', command);
    expect([code, stdout, stderr]).toEqual([
      1,
      '',
      'lab: the lab lacks CAP_NET_ADMIN, CAP_SYS_ADMIN; run it as root, or give it these capabilities\n',
    ]);
  }
});

describe('bad options', () => {
  test('npm kept an option for itself', async () => {
    const env = { ...process.env, npm_config_down: 'true' };
    const { code, stderr } = await finish(process.execPath, [join(dist, 'lab.js')], { env });
    expect([code, stderr]).toEqual([2, 'lab: --down: "an option of npm": expected npm run lab -- --down …\n']);
  });

  test.each([
    [['--nodes', '0'], 2, '--nodes: 0: expected a number from 1 to 20'],
    [['--pods', 'many'], 2, '--pods'],
    [['--name', '../etc'], 2, '--name: "../etc"'],
    [['--tor', 'cisco'], 2, 'Allowed choices are bird, frr, none'],
    [['--color'], 2, 'unknown option'],
    [['exec', 'nowhere', '--', 'true'], 1, 'there is no lab'],
  ])('%j', async (args, code, message) => {
    const name = labName('x');
    const ended = await lab(...(args.includes('--name') ? args : ['--name', name, ...args]));
    expect([ended.code, ended.stderr]).toEqual([code, expect.stringContaining(message)]);
  });
});
