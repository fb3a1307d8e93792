import { presignS3 } from '@graft/registry/stores/presign-s3.ts'
import { expect, it } from 'vitest'

// "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", Amazon S3 API Reference: its worked example.
const example = {
  bucketUrl: 'https://examplebucket.s3.amazonaws.com',
  region: 'us-east-1',
  credentials: async () => ({
    accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  }),
}
const at = new Date('2013-05-24T00:00:00Z')

it("signs Amazon's worked example as Amazon does", async () => {
  const url = await presignS3(example, { method: 'GET', key: 'test.txt', seconds: 86_400, at })
  expect(url).toBe(
    'https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256' +
      '&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request' +
      '&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host' +
      '&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
  )
})

it('signs a bucket in the path, a header and a session, each of which changes the signature', async () => {
  const request = { method: 'PUT' as const, key: 'a b/c+d', seconds: 60, at }
  const inPath = { ...example, bucketUrl: 'https://s3.test/bucket/' }
  const plain = new URL(await presignS3(inPath, request))
  expect(plain.pathname).toBe('/bucket/a%20b/c%2Bd')
  const sized = await presignS3(inPath, { ...request, headers: { 'Content-Length': '5' } })
  expect(new URL(sized).searchParams.get('X-Amz-SignedHeaders')).toBe('content-length;host')
  const session = {
    ...inPath,
    credentials: async () => ({ ...(await example.credentials()), sessionToken: 'a/b' }),
  }
  const withSession = new URL(await presignS3(session, request))
  expect(withSession.searchParams.get('X-Amz-Security-Token')).toBe('a/b')
  const signatures = [plain, new URL(sized), withSession].map((url) =>
    url.searchParams.get('X-Amz-Signature'),
  )
  expect(new Set(signatures).size).toBe(3)
})
