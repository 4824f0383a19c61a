"""Prepares a deployment before its services start: secrets, users, ACLs and topics."""
