"""The parts of the simulated GitLab: what is true in it, how it came to be, and how it looks over HTTP."""
