"""Danbao's payments: the ledger, payments upon it, and money in and out over rails."""
