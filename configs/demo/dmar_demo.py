_base_ = './tagclip_demo.py'
# Without the reidentification.
model = dict(head=dict(cwr=None))
