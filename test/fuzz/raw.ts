import { connect } from 'node:net'

/** What only a socket can say: requests that are none, and lengths that are not true. */
export const RAW_REQUESTS: readonly string[] = [
  'GET /v1/packages HTTP/1.1\r\n\r\n',
  'GET /v1/packages HTTP/9.9\r\nhost: a\r\n\r\n',
  'GET /v1/pack\u0000ages HTTP/1.1\r\nhost: a\r\n\r\n',
  'GET http://elsewhere.example/v1/packages HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET /../../v1/packages HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET // HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET /%c0%ae%c0%ae/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET /\u00e9 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET /v1/packages?q=\u00ff HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n',
  'GET / HTTP/1.1\r\nhost: a/\\@b:99999\r\nconnection: close\r\n\r\n',
  'GET / HTTP/1.1\r\nhost: \r\nconnection: close\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'CONNECT a:1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'BREW /pot HTTP/1.1\r\nhost: a\r\n\r\n',
  `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
  `GET / HTTP/1.1\r\nhost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
  `GET / HTTP/1.1\r\nhost: a\r\n${'x: y\r\n'.repeat(3000)}\r\n`,
  'GET / HTTP/1.1\r\nhost: a\r\nx\u0000y: z\r\n\r\n',
  'GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n',
  'GET / HTTP/1.1\nhost: a\n\n',
  'GET /v1/packages HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"code"',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}GET /admin HTTP/1.1\r\n\r\n',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n{}',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n{}',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n{}',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n{}',
  `POST /v1/setup HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n${'11170\r\n'}${'a'.repeat(70_000)}\r\n0\r\n\r\n`,
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}',
  'POST /v1/setup HTTP/1.1\r\nhost: a\r\nexpect: tea\r\ncontent-length: 2\r\n\r\n{}',
  '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  '\r\n\r\n\r\n',
]

/** Sends the bytes (one a character) and hears the answer, or what came when nothing more did for `ms`. */
export function sendRaw(port: number, text: string, ms: number): Promise<string> {
  return new Promise((resolve) => {
    let heard = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.from(text, 'latin1')))
    const done = () => {
      socket.destroy()
      resolve(heard)
    }
    socket.setTimeout(ms, done)
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1')
    })
    socket.on('error', done)
    socket.on('close', done)
  })
}
