//! MQTT over WebSocket [MQTT 5.0 §6]: a stream of bytes out of binary frames, wherever these are cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Layers;

/// Subprotocols that are MQTT, the standard's own first [MQTT-6.0.0-3].
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Bytes of one frame to the client.
const LONGEST_FRAME: usize = 64 << 10;
/// Bytes of the buffer that frames are read into.
const READ_BUFFER: usize = 4 << 10;

/// A client behind a WebSocket.
pub struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What is left of the last frame.
    frame: Bytes,
    closed: bool,
}

/// Shakes hands with a client that asks for MQTT at `path`. A frame may have a packet of `max_packet` bytes and more.
///
/// # Errors
/// The client has gone, or asks for something else; it was told by HTTP.
pub async fn accept<S>(stream: S, path: &str, max_packet: usize) -> Result<WebSocket<S>, Box<Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let longest = max_packet.saturating_add(LONGEST_FRAME);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    // The type is the library's.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| welcome(request, response, path);
    let inner = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await;
    Ok(WebSocket { inner: inner.map_err(Box::new)?, frame: Bytes::new(), closed: false })
}

#[allow(clippy::result_large_err)]
fn welcome(request: &Request, mut response: Response, path: &str) -> Result<Response, ErrorResponse> {
    let refuse = |status, why: &str| {
        let mut refusal = ErrorResponse::new(Some(why.to_owned()));
        *refusal.status_mut() = status;
        refusal
    };
    if request.uri().path() != path {
        return Err(refuse(StatusCode::NOT_FOUND, "MQTT is at another path of this listener\n"));
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> =
        offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim)).collect();
    let Some(chosen) = SUBPROTOCOLS.into_iter().find(|known| offered.contains(known)) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "ask for the subprotocol mqtt\n"));
    };
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(response)
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Layers for WebSocket<S> {
    fn has_said_goodbye(&self) -> bool {
        self.closed
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.frame.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(task)) {
                Some(Ok(Message::Binary(frame))) => self.frame = frame,
                Some(Ok(Message::Text(_))) => {
                    // [MQTT-6.0.0-1]
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a text frame")));
                }
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) => {
                    self.closed = true;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.frame.len().min(into.remaining());
        into.put_slice(&self.frame[..count]);
        self.frame.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(task)).map_err(to_io)?;
        let count = bytes.len().min(LONGEST_FRAME);
        let frame = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.inner).start_send(frame).map_err(to_io)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(task).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(task)) {
            // The layer below has its own way to end.
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                Pin::new(self.inner.get_mut()).poll_shutdown(task)
            }
            Err(error) => Poll::Ready(Err(to_io(error))),
        }
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
