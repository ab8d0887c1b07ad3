"""Measuring the machine: data, programs and figures."""
