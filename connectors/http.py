"""One HTTP policy for every vendor: what `requests.Session`s of both vendors' libraries, and our own, go through.

Timeouts, `Retry-After` in both its forms, the shared rate gate, same-host redirects only, the token never sent
elsewhere, content-type checks, the error class from the status in one place. No sleeping and no retrying of waits: what
the server asks for becomes an error that carries it, and the worker decides.
"""
