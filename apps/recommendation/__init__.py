"""Recommendation: which items does a user want next?"""
