"""What a program does on its own machine, and agrees with nobody about. Below all packages but `protocol/`.

Read in this order: settings (what a table of them is), files (whole or not there), threads (work beside other work),
voice (what a log says while something lasts).
"""
