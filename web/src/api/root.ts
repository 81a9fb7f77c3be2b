// Where the relay's paths begin: at `/`, or below the path that a proxy gives the relay. The pages' scripts
// lie in `assets/` below it, so a script knows it by its own address.
const script: string = import.meta.url;

export function rootOf(script: string): string {
  const above = new URL("..", script);
  return /^https?:$/.test(above.protocol) ? above.pathname : "/";
}

/** `npm run dev` serves the sources from their folders, and always at `/`. */
export const root = import.meta.env.DEV ? "/" : rootOf(script);

/** The address of one of the relay's paths: `at("/version")`. */
export function at(path: string): string {
  return root + path.replace(/^\//, "");
}

/** A path that the relay said: with the prefix if it knows of it (`--public-url`), else without. */
export function within(path: string): string {
  return path.startsWith(root) ? path : at(path);
}
