"""The words that the made-up company consists of."""

from __future__ import annotations

FIRST_NAMES = (
    "Ada", "Amir", "Anja", "Bao", "Carla", "Chidi", "Dana", "Elif", "Emeka", "Farah", "Goran", "Hana", "Ines", "Ivo",
    "Jonas", "Kavya", "Lena", "Liam", "Mara", "Mateo", "Noor", "Olga", "Pavel", "Priya", "Rafael", "Ravi", "Sana",
    "Sofia", "Tomas", "Uma", "Vera", "Wei", "Yara", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Almeida", "Berg", "Chen", "Costa", "Diallo", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Kaya",
    "Kowalski", "Lindner", "Mehta", "Moreau", "Nguyen", "Okafor", "Petrov", "Quinn", "Rossi", "Sato", "Schmidt",
    "Silva", "Tanaka", "Umarov", "Varga", "Weber", "Yilmaz", "Zhang",
)  # fmt: skip
SQUADS = (
    "Anchor", "Beacon", "Compass", "Drift", "Ember", "Fjord", "Gale", "Harbour", "Isle", "Jetty", "Keel", "Lagoon",
    "Mast", "North", "Oar", "Port", "Quay", "Reef", "Sail", "Tide",
)  # fmt: skip
BOTS = (("Renovate", "renovate-bot"), ("Release robot", "release-bot"), ("Automation for Jira", "jira-automation"))
PROJECTS = (
    ("Checkout", "CHK"), ("Billing", "BIL"), ("Search", "SEA"), ("Inventory", "INV"), ("Accounts", "ACC"),
    ("Notifications", "NTF"), ("Mobile App", "MOB"), ("Back Office", "BOF"), ("Pricing", "PRC"), ("Shipping", "SHP"),
    ("Returns", "RET"), ("Loyalty", "LOY"), ("Reporting", "REP"), ("Identity", "IDN"), ("Payments", "PAY"),
    ("Catalogue", "CAT"), ("Partner Portal", "PPO"), ("Data Platform", "DPL"), ("Fraud Detection", "FRD"),
    ("Customer Support", "CSU"), ("Warehouse", "WHS"), ("Recommendations", "REC"), ("Website", "WEB"),
    ("Subscriptions", "SUB"), ("Vouchers", "VOU"), ("Tax", "TAX"), ("Localisation", "LOC"), ("Gateway", "GTW"),
    ("Messaging", "MSG"), ("Audit", "AUD"), ("Onboarding", "ONB"), ("Marketplace", "MKT"), ("Forecasting", "FOR"),
    ("Scheduling", "SCH"), ("Documents", "DOC"), ("Analytics", "ANA"), ("Feature Flags", "FLG"), ("Media", "MED"),
    ("Reviews", "REV"), ("Consent", "CON"),
)  # fmt: skip
THINGS = (
    "basket", "invoice", "address form", "login", "export", "price list", "search results", "refund", "receipt",
    "session", "voucher", "webhook", "report", "date picker", "upload", "audit trail", "dashboard", "queue",
)  # fmt: skip
FAULTS = (
    "is empty after reload", "shows the wrong total", "times out under load", "loses the last line", "is cut on mobile",
    "rounds twice", "ignores the time zone", "fails for long names", "is sent twice", "breaks at the end of a month",
    "cannot be saved", "shows another customer's name", "is slow with many rows", "crashes without a network",
)  # fmt: skip
WISHES = ("Allow several", "Speed up the", "Redesign the", "Log changes of the", "Move to the new", "Document the")
AREAS = ("api", "ui", "domain", "jobs", "storage", "auth", "reports", "import")
ERRORS = (
    "AssertionError: expected 200, got 500", "TimeoutError: no answer within 30 s", "AssertionError: 3 != 2",
    "ElementNotFound: #submit", "ConnectionRefusedError: database", "KeyError: 'total'",
)  # fmt: skip
DOCUMENTS = (
    "Architecture", "Runbook", "Release process", "Test strategy", "Glossary", "On-call guide", "API guide",
    "Data model", "Security notes", "Retrospectives", "Roadmap", "Onboarding",
)  # fmt: skip
DECISIONS = (
    "Use feature flags for risky changes", "Freeze releases over the holidays", "Quarantine flaky tests after a week",
    "Support the last two mobile versions", "Move nightly tests to the staging cluster", "Drop the old import format",
    "Require two approvals for payments", "Accept the known rounding difference",
)  # fmt: skip
