/** A bucket of an S3 server, and who may write to it. */
export interface S3Address {
  /** `https://host/bucket` or `https://bucket.host`; keys are appended. */
  bucketUrl: string
  region: string
  credentials(): Promise<{
    accessKeyId: string
    secretAccessKey: string
    sessionToken?: string | undefined
  }>
}

export interface PresignRequest {
  method: 'GET' | 'PUT'
  key: string
  /** Headers that the request must carry just so. */
  headers?: Record<string, string>
  /** Seconds that the address is good for. */
  seconds: number
  at: Date
}

/** RFC 3986 percent-encoding, as SigV4 wants it: all but unreserved characters. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  )

const utf8 = (text: string): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>
const hex = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

async function hmac(key: BufferSource, text: string): Promise<ArrayBuffer> {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  const imported = await crypto.subtle.importKey('raw', key, algorithm, false, ['sign'])
  return crypto.subtle.sign('HMAC', imported, utf8(text))
}

/**
 * An address that lets its bearer do one thing with one object for a while: AWS Signature Version 4 in the query, over an
 * unsigned payload ("Authenticating Requests: Using Query Parameters", Amazon S3 API Reference).
 */
export async function presignS3(address: S3Address, request: PresignRequest): Promise<string> {
  const { accessKeyId, secretAccessKey, sessionToken } = await address.credentials()
  const url = new URL(address.bucketUrl)
  const path = `${url.pathname.replace(/\/$/, '')}/${request.key.split('/').map(encode).join('/')}`
  // 2013-05-24T00:00:00.000Z -> 20130524T000000Z
  const time = request.at.toISOString().replace(/[-:]|\.\d+/g, '')
  const scope = `${time.slice(0, 8)}/${address.region}/s3/aws4_request`
  const headers = Object.entries({ ...request.headers, host: url.host })
    .map(([name, value]): [string, string] => [name.toLowerCase(), value.trim()])
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const signed = headers.map(([name]) => name).join(';')
  const query = Object.entries({
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${accessKeyId}/${scope}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': String(request.seconds),
    ...(sessionToken ? { 'X-Amz-Security-Token': sessionToken } : {}),
    'X-Amz-SignedHeaders': signed,
  })
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .join('&')
  const canonical = [
    request.method,
    path,
    query,
    ...headers.map(([name, value]) => `${name}:${value}`),
    '',
    signed,
    'UNSIGNED-PAYLOAD',
  ].join('\n')
  const digest = hex(await crypto.subtle.digest('SHA-256', utf8(canonical)))
  let key: BufferSource = utf8(`AWS4${secretAccessKey}`)
  for (const part of scope.split('/')) key = await hmac(key, part)
  const signature = hex(await hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${digest}`))
  return `${url.origin}${path}?${query}&X-Amz-Signature=${signature}`
}
