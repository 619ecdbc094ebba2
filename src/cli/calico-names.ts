import { InputError } from '../base/errors.ts';
import { nearest } from '../felix/nearest.ts';

/*
 * The commands of Calico's images as ours: a manifest of Calico's in which only the images are changed names them as
 * commands, probes and hooks. Pure.
 */

/** One thing that a container's probe asks. */
export type Probe = 'felix-live' | 'felix-ready' | 'bgp-live' | 'bgp-ready' | 'controllers-live' | 'controllers-ready';

export type Action =
  /** A program of ours with its arguments. */
  | { readonly do: 'run'; readonly args: readonly string[] }
  | { readonly do: 'probe'; readonly probes: readonly Probe[] }
  /** There is nothing to do here for it; the text says why. */
  | { readonly do: 'nothing'; readonly reason: string };

/** Where Calico's manifests mount the host's directories into the container that installs the plugin. */
const install = ['cni', 'install', '--bin-dir', '/host/opt/cni/bin', '--conf-dir', '/host/etc/cni/net.d'];

const probes: Readonly<Record<string, Probe>> = {
  'felix-live': 'felix-live',
  'felix-ready': 'felix-ready',
  'bird-live': 'bgp-live',
  'bird-ready': 'bgp-ready',
  'bird6-live': 'bgp-live',
  'bird6-ready': 'bgp-ready',
};

const node: Action = { do: 'run', args: ['node'] };
const nothing = (reason: string): Action => ({ do: 'nothing', reason });
const noEbpf = nothing('there is no eBPF dataplane to prepare for');
const noShutdown = nothing('what is in the kernel stays and goes on forwarding');

/** Words of `calico-node`, with one dash or two, and of `calico component node`. */
const nodeWords: Readonly<Record<string, Action>> = {
  init: noEbpf,
  shutdown: noShutdown,
  start: node,
  felix: { do: 'run', args: ['felix'] },
  startup: { do: 'run', args: ['startup'] },
};

/**
 * What a command of Calico's stands for.
 * @param name of the program, without its directory; empty or `start_runit` for an image that is started as it is
 * @throws InputError for words that Calico knows perhaps, and we do not
 */
export function actionOf(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Action {
  switch (name) {
    case '':
      return started(env);
    case 'start_runit':
      return node;
    case 'calico-node':
      return args.length === 0 ? node : nodeAction(args.map((arg) => arg.replace(/^--?/, '')));
    case 'install':
      return { do: 'run', args: install };
    case 'calico-ipam':
      return nothing('addresses of host-local are taken over by `margayctl migrate`');
    case 'check-status':
      return statusAction(args);
    case 'kube-controllers':
      return { do: 'run', args: ['controllers'] };
    case 'calico':
      return componentAction(args);
    default:
      throw new InputError('command', name, "a command of Calico's images");
  }
}

/** Calico's images for nodes and controllers are started without arguments, and told apart by their environment. */
function started(env: Readonly<Record<string, string | undefined>>): Action {
  if (env['ENABLED_CONTROLLERS'] !== undefined) return { do: 'run', args: ['controllers'] };
  if (env['NODENAME'] !== undefined || env['CALICO_NETWORKING_BACKEND'] !== undefined) return node;
  throw new InputError('command', undefined, 'arguments, or NODENAME or ENABLED_CONTROLLERS in the environment');
}

function nodeAction(words: readonly string[]): Action {
  const options = words.filter((word) => word !== 'best-effort' && word !== 'health');
  const asked = options.map((word) => probes[word]);
  if (asked.length > 0 && asked.every((probe) => probe !== undefined))
    return { do: 'probe', probes: [...new Set(asked)] };
  const [word = '', ...more] = options;
  const action = nodeWords[word];
  if (action !== undefined && more.length === 0) return action;
  const unknown = options.find((each) => probes[each] === undefined && nodeWords[each] === undefined) ?? word;
  const near = nearest(unknown, [...Object.keys(probes), ...Object.keys(nodeWords)]);
  throw new InputError('calico-node', unknown, near ? `a known word: did you mean ${near}?` : 'a known word');
}

/** `check-status -l` is alive, `-r` ready; without either, as Calico's, ready. */
function statusAction(args: readonly string[]): Action {
  const live = args.some((arg) => /^--?l(ive)?$/.test(arg));
  return { do: 'probe', probes: [live ? 'controllers-live' : 'controllers-ready'] };
}

/** `calico component node health --felix-live`, as the images from 3.32 on have it. */
function componentAction([first, component, ...rest]: readonly string[]): Action {
  const words = rest.map((arg) => arg.replace(/^--?/, ''));
  if (first === 'component' && component === 'node') return words.length === 0 ? node : nodeAction(words);
  if (first === 'component' && component === 'cni' && words.join() === 'install') return { do: 'run', args: install };
  if (first === 'component' && component === 'kube-controllers')
    return words.includes('check-status') || words.includes('health')
      ? statusAction(rest)
      : { do: 'run', args: ['controllers'] };
  throw new InputError(
    'calico',
    [first, component, ...rest].join(' '),
    'component node, cni install or kube-controllers',
  );
}

/** Whether the folder of the pods' network namespaces is mounted, by /proc/self/mountinfo. proc_pid_mountinfo(5). */
export function seesNamespaces(mountinfo: string): boolean {
  return mountinfo.split('\n').some((line) => /^(\/var)?\/run\/netns$/.test(line.split(' ')[4] ?? ''));
}
