/** The same numbers in every run: xorshift32 of the question's index. */
function numbersOf(seed: number): (below: number) => number {
  let state = Math.imul(seed + 1_000_003, 0x9e3779b1) | 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const query = (values: Record<string, string>): string => new URLSearchParams(values).toString()

/** A range of any of npm's forms over @big/one; half of them for one base, some of them met by nothing. */
export function randomRange(i: number, base: string): string {
  const next = numbersOf(i)
  const [major, minor, patch] = [next(11), next(100), next(10)]
  const forms = [
    `^${major}.${minor}.${patch}`,
    `~${major}.${minor}`,
    `${major}.x`,
    `>=${major}.${minor} <${major + 2}`,
    `${major}.${minor}.${patch}`,
    `<${major + 1}`,
    `>${major}`,
    `*`,
    `${major} || ${next(11)}.${minor} || ~${next(11)}.${next(100)}`,
    `>=${major}.${minor}.${patch}-rc.0 <${major}.${minor + 1}`,
    `${major}.${minor}.0 - ${major + 1}.${minor}.0`,
  ]
  const ref = `@big/one@${forms[next(forms.length)]}`
  return query(next(2) === 0 ? { ref } : { ref, base, operations: 'low_rank,scale' })
}

/** Any package, by tag or range. */
export function randomPackage(i: number, packages: number): string {
  const next = numbersOf(i)
  const n = next(packages)
  const org = String(Math.floor(n / (packages / 1000))).padStart(3, '0')
  const name = `@s${org}/p${String(n).padStart(6, '0')}`
  return query({ ref: next(2) === 0 ? name : `${name}@^1` })
}
