import { netlinkOver } from '../kernel/rtnetlink/driver.ts';
import { PaperWire } from '../kernel/rtnetlink/paper.ts';
import { cidrOf, parseIp } from '../model/address.ts';
import { gatewayForm } from './calc/route.ts';
import { RouteTable, type Winner } from './calc/routes.ts';
import { RouteManager } from './managers/routes.ts';

const routes = 2048;
/** RTPROT_KERNEL */
const kernelProtocol = 2;
const always = (): boolean => true;
/** Every caller of `apply` has a question of its own: code that is compiled for one of them would be thrown away. */
const askers: readonly ((winner: Winner) => boolean)[] = [
  always,
  ({ class: routeClass }) => routeClass !== 'blackhole',
  ({ family }) => family === 4,
  ({ owner }) => owner === undefined,
  (winner) => winner.class === 'bgp',
];
/** After about so many the compiler has seen what matters. */
const usualRounds = 60;

/**
 * Installs routes on paper, takes half of them away and mends it, again and again, so that the code which every route
 * passes is compiled before a table of many is to be mended: the first ten thousand would otherwise take ten times as
 * long. The kernel is not asked.
 * @param turn waited for before each round; false ends it
 */
export async function rehearseRoutes(turn: () => Promise<boolean>, rounds = usualRounds): Promise<void> {
  const paper = new PaperWire();
  const table = new RouteTable();
  const netlink = netlinkOver(paper);
  const manager = new RouteManager(netlink, table, { families: [4], interfacePrefix: 'cali' });
  // Addresses that nobody has, of RFC 5737 and RFC 2544.
  const prefix = (a: number, b: number, c: number, length: number) => cidrOf(Uint8Array.of(198, a, b, c), length);
  const form = gatewayForm([{ gateway: parseIp('192.0.2.1') }]);
  // A node has routes of its own, and some of them are nobody's wish.
  const others = [prefix(51, 100, 0, 24), prefix(51, 100, 0, 26)];
  netlink.applyRoutes(
    others.map((destination) => ({ ...form, protocol: kernelProtocol, destination })),
    [],
  );
  for (let i = 0; i < routes; i++) table.want('bgp', prefix(18 | (i >> 10), (i >> 2) & 255, (i & 3) << 6, 26), form);
  for (let round = 0; round < rounds && (await turn()); round++) {
    paper.lose((at) => at % 2 === round % 2);
    await manager.read();
    const { failures } = await manager.apply(askers[round % askers.length] ?? always);
    if (failures[0]) throw failures[0].cause;
  }
}
