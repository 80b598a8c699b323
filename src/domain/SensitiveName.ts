/** Names of files that are likely to hold secrets: a tool reads them only when a person says so, each time. Pure. */

const NAMES =
  /^(?:\.env(?:rc|[._~-].*)?|\.netrc|\.pgpass|\.npmrc|\.pypirc|\.git-credentials|\.htpasswd|credentials|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|authorized_keys|known_hosts|shadow|wallet\.dat|.*\.(?:pem|key|ppk|p12|pfx|jks|keystore|kdbx?|gpg|asc|sec|ans|ovpn|tfstate))$/i
/** With whatever follows them: `passwords 2024.txt`, `credentials.json`, `client_secret_1.apps.json`. */
const WORDS =
  /(?:password|passwd|passphrase|client[ ._-]?secret)|^(?:credentials|service[ ._-]?account)[^/]*\.json$|(?:secret|token)s?(?:[ ._-]?\(?\d+\)?)?(?:\..+)?$/i
/** What editors and careful people put behind the name of a copy. */
const COPY = /(?:~|\.(?:bak|backup|copy|old|orig|save|swp|\d+))+$/i
const FOLDERS = /^(?:\.ssh|\.gnupg|\.aws|\.azure|\.kube|\.docker|\.password-store)$/i

/** Whether some part of a path, `/`-separated, is such a name. */
export const isSensitive = (path: string): boolean =>
  path.split("/").some((part) => {
    // A copy made by vim begins with a dot.
    const name = part.normalize("NFKC")
    const plain = name.replace(COPY, "")
    return FOLDERS.test(name) || NAMES.test(plain) || NAMES.test(plain.replace(/^\./, "")) || WORDS.test(plain)
  })
