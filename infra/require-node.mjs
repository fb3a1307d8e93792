// Plain JavaScript on purpose: an old Node must be able to read this far and be told what is wrong.
const [major, minor] = process.versions.node.split('.').map(Number)
const ok = major > 22 || (major === 22 && minor >= 18)
if (!ok) {
  console.error(
    `graft: this needs Node 22.18 or newer, and ${process.execPath} is ${process.versions.node}. ` +
      'Run it through npm (`npm start`, `npm test`), which uses the Node 24 that `npm ci` installs on ' +
      'Linux and Windows; elsewhere install Node 24. (ERR_NODE_TOO_OLD)',
  )
  process.exit(9)
}
