"""Reads a model as graphs and puts other forwards into it; knows no verb."""
