import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';

/*
 * As much of a kubelet as starts and ends pods: the Container Runtime Interface, runtime.v1.RuntimeService, over gRPC on
 * a unix socket. Messages are written and read by the field numbers of its api.proto.
 */

/** Fields in the order written: number, and text, a number, or a message. */
export type Fields = readonly (readonly [number, string | number | Fields])[];

/** What a message has under each field number. */
type Message = ReadonlyMap<number, readonly (Buffer | number)[]>;

/** ContainerState CONTAINER_EXITED. */
const exited = 2;

/** The runtime refused a call. */
export class CriError extends Error {
  override readonly name = 'CriError';
}

export interface Sandbox {
  readonly id: string;
  readonly config: Fields;
}

export class Cri {
  readonly #session: ClientHttp2Session;

  constructor(socketPath: string) {
    this.#session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) });
    // Every call under way is told of it as well.
    this.#session.on('error', () => this.#session.destroy());
  }

  close(): void {
    this.#session.destroy();
  }

  /** Conditions of the runtime by name, RuntimeReady and NetworkReady. */
  async conditions(): Promise<ReadonlyMap<string, boolean>> {
    const status = nested(await this.#call('Status', []), 1);
    return new Map(
      (status.get(1) ?? []).map((each) => {
        const condition = parse(each as Buffer);
        return [text(condition, 1), condition.get(2)?.[0] === 1];
      }),
    );
  }

  /**
   * Starts the sandbox of a pod. @throws CriError with what the CNI plugin said
   * @param linux further fields of its LinuxPodSandboxConfig @param more of its PodSandboxConfig
   */
  async runPod(
    namespace: string,
    name: string,
    cgroupParent: string,
    linux: Fields = [],
    more: Fields = [],
  ): Promise<Sandbox> {
    const metadata: Fields = [
      [1, name],
      [2, `${name}-uid`],
      [3, namespace],
    ];
    // On the host's network it has the host's name, and asks for none.
    const hostname: Fields = linux.length === 0 ? [[2, name]] : [];
    const config: Fields = [[1, metadata], ...hostname, ...more, [8, [[1, cgroupParent], ...linux]]];
    return { id: text(await this.#call('RunPodSandbox', [[1, config]]), 1), config };
  }

  /** The address of a pod as its runtime tells it. */
  async address({ id }: Sandbox): Promise<string> {
    return text(nested(nested(await this.#call('PodSandboxStatus', [[1, id]]), 1), 5), 1);
  }

  /** Runs a container of an image in the pod; its id. @param more fields of its ContainerConfig */
  async runContainer(
    sandbox: Sandbox,
    image: string,
    command: readonly string[],
    more: Fields = [],
    name = 'main',
  ): Promise<string> {
    const words = command.map((word) => [3, word] as const);
    const config: Fields = [[1, [[1, name]]], [2, [[1, image]]], ...words, ...more];
    const fields: Fields = [
      [1, sandbox.id],
      [2, config],
      [3, sandbox.config],
    ];
    const id = text(await this.#call('CreateContainer', fields), 1);
    await this.#call('StartContainer', [[1, id]]);
    return id;
  }

  /** The code with which a container ended; undefined while it runs. */
  async exitCode(id: string): Promise<number | undefined> {
    const status = nested(await this.#call('ContainerStatus', [[1, id]]), 1);
    return status.get(3)?.[0] === exited ? Number(status.get(7)?.[0] ?? 0) : undefined;
  }

  /** Runs a command in a container to its end. */
  async exec(id: string, command: readonly string[]): Promise<{ readonly code: number; readonly output: string }> {
    const fields: Fields = [[1, id], ...command.map((word) => [2, word] as const), [3, 20]];
    const answer = await this.#call('ExecSync', fields);
    return { code: Number(answer.get(3)?.[0] ?? 0), output: text(answer, 1) + text(answer, 2) };
  }

  /** Ends a container by its signal, or after seconds by SIGKILL. */
  async stopContainer(id: string, seconds: number): Promise<void> {
    await this.#call('StopContainer', [
      [1, id],
      [2, seconds],
    ]);
  }

  async stopPod({ id }: Pick<Sandbox, 'id'>): Promise<void> {
    await this.#call('StopPodSandbox', [[1, id]]);
  }

  async removePod({ id }: Pick<Sandbox, 'id'>): Promise<void> {
    await this.#call('RemovePodSandbox', [[1, id]]);
  }

  /** All sandboxes that the runtime knows. */
  async pods(): Promise<string[]> {
    const listed = await this.#call('ListPodSandbox', []);
    return (listed.get(1) ?? []).map((item) => text(parse(item as Buffer), 1));
  }

  async #call(method: string, fields: Fields): Promise<Message> {
    const stream = this.#session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const trailers: Record<string, unknown> = {};
    const collect = (headers: object) => void Object.assign(trailers, headers);
    stream.on('response', collect);
    stream.on('trailers', collect);
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    const body = write(fields);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    stream.end(Buffer.concat([head, body]));
    await once(stream, 'close');
    if (trailers['grpc-status'] !== '0')
      throw new CriError(`${method}: ${decodeURIComponent(String(trailers['grpc-message'] ?? 'no answer'))}`);
    return parse(Buffer.concat(chunks).subarray(5));
  }
}

function write(fields: Fields): Buffer {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === 'number') return [varint(number << 3), varint(value)];
      const bytes = typeof value === 'string' ? Buffer.from(value) : write(value);
      return [varint((number << 3) | 2), varint(bytes.length), bytes];
    }),
  );
}

function varint(value: number): Buffer {
  const octets: number[] = [];
  let left = value;
  for (; left > 127; left = Math.floor(left / 128)) octets.push((left % 128) | 128);
  return Buffer.from([...octets, left]);
}

function parse(bytes: Buffer): Message {
  const fields = new Map<number, (Buffer | number)[]>();
  let at = 0;
  const number = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const octet = bytes[at++];
      if (octet === undefined) throw new CriError('an answer that breaks off');
      value += (octet & 127) * scale;
      if (octet < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag & 7;
    if (kind !== 0 && kind !== 2) throw new CriError(`a field of wire type ${kind}`);
    let value: Buffer | number = number();
    if (kind === 2) {
      value = bytes.subarray(at, at + value);
      at += value.length;
    }
    fields.set(tag >> 3, [...(fields.get(tag >> 3) ?? []), value]);
  }
  return fields;
}

function text(message: Message, field: number): string {
  return String(message.get(field)?.[0] ?? '');
}

function nested(message: Message, field: number): Message {
  return parse((message.get(field)?.[0] as Buffer | undefined) ?? Buffer.alloc(0));
}
