"""Allure results, from folders and archives, to records."""
