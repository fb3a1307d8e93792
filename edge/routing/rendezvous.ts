/** FNV-1a over UTF-16 units, finished with murmur3's mixer: cheap, and even enough to spread keys over runners. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Highest-random-weight order of `nodes` for `key`: a node that leaves moves only its own keys. */
export const rendezvous = <Node>(
  nodes: Node[],
  idOf: (node: Node) => string,
  key: string,
): Node[] =>
  nodes
    .map((node) => ({ node, id: idOf(node), weight: hash32(`${idOf(node)}\n${key}`) }))
    .sort((a, b) => b.weight - a.weight || (a.id < b.id ? -1 : 1))
    .map(({ node }) => node)
