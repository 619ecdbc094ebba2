import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pause, systemClock } from '../../src/base/clock.ts';
import { errorCode } from '../../src/base/errors.ts';
import { type DutId, duts, type Programs } from './duts.ts';
import { Tester, TrialError } from './tester.ts';
import { asn, dutAddress, port, receiverAddress, senderAddress, type Topology, withTopology } from './topology.ts';
import { type Usage, usageOf } from './usage.ts';

export interface TrialOptions {
  readonly dut: DutId;
  readonly receivers: number;
  /** File of pre-encoded UPDATEs. */
  readonly stream: string;
  readonly programs: Programs;
  readonly signal: AbortSignal;
}

/** One device under test between testers, once. */
export interface Trial {
  /** How many receivers there are. */
  readonly clients: number;
  /** The DUT is a route reflector, not a relay of octets. */
  readonly reflects: boolean;
  readonly sender: Tester;
  readonly receivers: Tester;
  /** Sessions come up, one after another. Resolves with when the first one did. */
  connect(side: 'sender' | 'receivers'): Promise<number>;
  /** What the DUT has used since it started. */
  usage(): Usage;
  /** Milliseconds for which the DUT answered nobody at the longest. @throws TrialError when it does not tell */
  longestPause(): Promise<number>;
  /** Until the DUT has nothing left to do, at least `atLeastMs`. */
  idle(atLeastMs: number): Promise<void>;
}

/** Seconds for a DUT to start and for its sessions to come up. */
const connectSeconds = 60;
/** Of a trial's log, in characters. */
const logShown = 1500;

/**
 * Runs an action with a DUT in namespaces of its own; all of it is gone afterwards, whatever happens.
 * @throws TrialError with what the DUT said last
 */
export async function withTrial<T>(options: TrialOptions, action: (trial: Trial) => Promise<T>): Promise<T> {
  const { dut, receivers } = options;
  options.signal.throwIfAborted();
  const directory = mkdtempSync(join(tmpdir(), 'margay-bench-bgp-'));
  const log = join(directory, 'dut.log');
  try {
    return await withTopology(receivers, (topology) => inTopology(options, directory, log, topology, action));
  } catch (thrown) {
    if (!(thrown instanceof TrialError)) throw thrown;
    const said = readFileSync(log, 'utf8').slice(-logShown).trim();
    throw new TrialError(`${duts[dut].title}: ${thrown.message}${said ? `\n${said}` : ''}`, { cause: thrown });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function inTopology<T>(
  { dut, receivers, stream, programs, signal }: TrialOptions,
  directory: string,
  log: string,
  topology: Topology,
  action: (trial: Trial) => Promise<T>,
): Promise<T> {
  const addresses = Array.from({ length: receivers }, (_, n) => receiverAddress(n));
  const own = join(directory, 'dut');
  mkdirSync(own);
  const setup = { ...programs, directory: own, peers: [senderAddress, ...addresses] };
  const command = duts[dut].command(setup);
  const ended = new AbortController();
  const child = started([...topology.within('dut'), ...command], log, (how) => ended.abort(new TrialError(how)));
  const either = AbortSignal.any([signal, ended.signal]);
  const sides = {
    sender: new Tester(topology.within('sender'), programs.tester, stream, either),
    receivers: new Tester(topology.within('receivers'), programs.tester, stream, either),
  };
  const usage = () => usageOf(child.pid ?? 0);
  try {
    return await action({
      ...sides,
      clients: receivers,
      reflects: !duts[dut].relays,
      connect: async (side) => {
        const from = side === 'sender' ? [senderAddress] : addresses;
        return (await sides[side].connect(dutAddress, port, asn, connectSeconds, from)).first;
      },
      usage,
      longestPause: async () => {
        const pause = await duts[dut].longestPause?.(setup);
        if (pause === undefined) throw new TrialError('does not tell of pauses');
        return pause;
      },
      idle: (atLeastMs) => untilIdle(usage, atLeastMs, either),
    });
  } finally {
    await Promise.all([sides.sender.close(), sides.receivers.close()]);
    await stopped(child);
  }
}

function started([command = '', ...args]: readonly string[], log: string, ended: (how: string) => void): ChildProcess {
  const output = openSync(log, 'w');
  // A group of its own: Ctrl-C is this process's to handle.
  const child = spawn(command, args, { stdio: ['ignore', output, output], detached: true });
  closeSync(output);
  child.once('error', (error) => ended(`did not start: ${error.message}`));
  child.once('exit', (code, signal) => ended(`ended with ${signal ?? code}`));
  return child;
}

const stopMs = 5000;

/** Asks the processes of its group to end, and kills them when they do not. */
async function stopped({ pid }: ChildProcess): Promise<void> {
  if (pid === undefined) return;
  const end = performance.now() + stopMs;
  while (signalled(pid, performance.now() < end ? 'SIGTERM' : 'SIGKILL')) await pause(systemClock, 20);
}

/** False when nobody is left in the group. */
function signalled(group: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(-group, signal);
  } catch (thrown) {
    if (errorCode(thrown) !== 'ESRCH') throw thrown;
    return false;
  }
}

const windowMs = 250;
/** Timers tick in an idle daemon too. */
const idleShare = 0.04;

/** Three windows in a row with next to no processor time used or waited for. */
async function untilIdle(usage: () => Usage, atLeastMs: number, signal: AbortSignal): Promise<void> {
  const began = performance.now();
  for (let quiet = 0, last = usage(); quiet < 3 || performance.now() - began < atLeastMs; ) {
    await pause(systemClock, windowMs, signal);
    signal.throwIfAborted();
    const next = usage();
    const busy = next.cpuSeconds - last.cpuSeconds + (next.waitSeconds - last.waitSeconds);
    quiet = busy < (windowMs / 1000) * idleShare ? quiet + 1 : 0;
    last = next;
  }
}
