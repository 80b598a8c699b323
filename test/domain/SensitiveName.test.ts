import { assert, describe, it } from "@effect/vitest"
import { isSensitive } from "../../src/domain/SensitiveName.ts"

describe("SensitiveName", () => {
  it("knows names that are likely to hold secrets, anywhere in a path and in any case", () => {
    for (const path of [
      ".env",
      "/app/.ENV.local",
      "/.ssh/config",
      "/home/.gnupg/x/y",
      "server.key",
      "/a/tls.PEM",
      "/backup/id_ed25519",
      "passwords.txt",
      "/x/my-secret.json",
      "api_token",
      "vault.kdbx",
      "clawchat-current.sec",
      "．env",
      ".env~",
      ".env-production",
      ".envrc",
      "server.key.bak",
      ".server.key.swp",
      "id_rsa.old",
      "credentials.json",
      "client_secret_123.apps.json",
      "service-account.json",
      "passwords 2024.txt",
      "my passwords (1).txt",
      "tokens-2.txt"
    ]) {
      assert.isTrue(isSensitive(path), path)
    }
    for (const path of [
      "/",
      "/notes/environment.md",
      "keynote.txt",
      "monkey.jpg",
      "/a/tokens-of-love/x.txt",
      "env",
      ".environment",
      "old.txt",
      "key.old"
    ]) {
      assert.isFalse(isSensitive(path), path)
    }
  })
})
