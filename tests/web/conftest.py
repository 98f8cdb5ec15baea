import threading

import pytest

pytest.importorskip('starlette', reason='the web page needs the extra web')
pytest.importorskip('uvicorn', reason='the web page needs the extra web')


@pytest.fixture(scope='module')
def model(demo_segmentor):
    return demo_segmentor.model


@pytest.fixture
def serve():
    """Start a server for an application; gives its address."""
    from mmtagclip.web.connections import make_server

    servers = []

    def start(app):
        server = make_server(app, app.state.server.limits)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.02)
        servers.append((server, thread))
        port = server.servers[0].sockets[0].getsockname()[1]
        return f'http://127.0.0.1:{port}'

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)
