"""What a worker keeps and proves about its pay, and how it answers accusations.

receipts, bookkeeping, earnings, unposted and exposure are about pay; appeals, review and defence about accusations.
"""
