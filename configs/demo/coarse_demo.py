_base_ = './tagclip_demo.py'
# Coarse scores alone.
model = dict(head=dict(dmar=None, cwr=None))
