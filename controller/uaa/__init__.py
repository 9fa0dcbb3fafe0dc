"""The embedded UAA: accounts, clients and tokens. Knows organizations and spaces as little as any identity provider."""
