"""What a program does on its own machine, and agrees with nobody about. Below all packages but `protocol/`.

Read in this order: files (whole or not there), voice (what a log says while something lasts).
"""
