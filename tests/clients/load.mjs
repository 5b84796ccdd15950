// Installed beside node_modules, where Node looks for what a program imports: read.mjs stays in the sources.
export const load = name => import(name);
