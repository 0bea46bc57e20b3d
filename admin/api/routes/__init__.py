"""Routes of the admin API, one module a subject, each with an `APIRouter` named `router`."""
