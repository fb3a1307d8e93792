/** Source keys of each adapted module by part, and the keys that are none of the method's. */
export interface ModuleParts<Part extends string> {
  modules: Map<string, Partial<Record<Part, string>>>
  rest: Map<string, string>
}

/**
 * Sorts keys by the module that stands before the first pattern that matches.
 * @param keys source keys by what follows their prefix
 * @param patterns each with the module's path as its first group
 */
export function groupByModule<Part extends string>(
  keys: ReadonlyMap<string, string>,
  patterns: readonly (readonly [RegExp, Part])[],
): ModuleParts<Part> {
  const modules: ModuleParts<Part>['modules'] = new Map()
  const rest = new Map<string, string>()
  for (const [inner, key] of keys) {
    const found = patterns
      .map(([pattern, part]) => ({ path: pattern.exec(inner)?.[1], part }))
      .find(({ path }) => path !== undefined)
    if (found?.path === undefined) rest.set(inner, key)
    else
      modules.set(found.path, {
        ...modules.get(found.path),
        ...({ [found.part]: key } as Partial<Record<Part, string>>),
      })
  }
  return { modules, rest }
}
