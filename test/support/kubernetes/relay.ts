/**
 * Program for `node -e` that brings an API server on a unix socket to the loopback of the namespace that it runs in:
 * connections to port 6443 go on to the socket in its first argument.
 */
export const relayProgram = `const { connect, createServer } = require('node:net');
createServer((from) => {
  const to = connect(process.argv[1]);
  for (const [one, other] of [[from, to], [to, from]]) {
    one.pipe(other);
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
}).listen(6443, '127.0.0.1');`;
