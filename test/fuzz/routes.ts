export interface Route {
  method: string
  /** As Hono has it: `/v1/manifests/:digest`, `/tile/:path{.+}`. */
  path: string
}

/** Every route that the app itself answers for; what runs before them all is none. */
export function listRoutes(app: { routes: readonly Route[] }): Route[] {
  const found = new Map<string, Route>()
  for (const { method, path } of app.routes)
    if (method !== 'ALL') found.set(`${method} ${path}`, { method, path })
  return [...found.values()]
}

/** The path with each `:parameter` as `value` says. */
export const fillPath = (path: string, value: (name: string) => string): string =>
  path.replace(/:(\w+)(\{[^}]*\})?/g, (_, name: string) => value(name))
