"""The stores behind the Ledger port. Foreign errors are translated here."""
