"""What ``label-studio-ml start tools/label_studio`` serves; ``_wsgi:app`` for other servers."""

import argparse

from label_studio_ml.api import init_app
from model import MMTagCLIP

app = init_app(model_class=MMTagCLIP)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Serve mmtagclip to Label Studio.')
    parser.add_argument('-p', '--port', type=int, default=9090, help='default: 9090')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (default: 127.0.0.1)'
    )
    args = parser.parse_known_args()[0]
    app.run(host=args.host, port=args.port)
