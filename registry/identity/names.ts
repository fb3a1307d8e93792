import * as z from 'zod'

/** Users and organisations: what may stand between "@" and "/" of a package. */
export const nameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,38}$/,
    'must be 1 to 39 lower-case letters, digits or "-", and start with a letter or digit',
  )
