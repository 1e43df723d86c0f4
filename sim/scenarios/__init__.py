"""What-if questions over one recorded run: one scenario a file, each a pure function from the record and the prices.

`play` puts them together for `fedge sim scenarios`; scenarios that need runs of their own say so.
"""
