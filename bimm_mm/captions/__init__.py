"""Captions of videos: a file of them beside the videos, and ways to make it."""
