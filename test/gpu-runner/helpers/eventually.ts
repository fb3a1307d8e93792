import { expect } from 'vitest'

/** Polls often and long: the machine may be busy, and what is waited for may be brief. */
export const eventually = <T>(read: () => T) => expect.poll(read, { interval: 5, timeout: 30_000 })
