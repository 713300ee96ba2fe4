"""The desk's process: the one submitter of an account, its boot, its pulse, and the session's close."""
