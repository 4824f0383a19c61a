"""Diagnosis of the machine that Postjournal is to run on."""
