use super::*;

/// A net of two nodes, both this process; node 1 sends back what it receives.
async fn net() -> (Net, TcpStream) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let echo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let back = echo.local_addr().expect("bound").port();
    let fronts = [free(), free()];
    let net = Net::start(&fronts, &[back, back]).await.expect("free ports");
    net.born(0, std::process::id());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut input, mut output) = stream.split();
                tokio::io::copy(&mut input, &mut output).await
            });
        }
    });
    let stream = TcpStream::connect(("127.0.0.1", fronts[1])).await.expect("a front");
    (net, stream)
}

async fn echoed(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").await.expect("the kernel takes it");
    back(stream).await
}

async fn back(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut byte));
    read.await.is_ok_and(|read| read.is_ok())
}

#[tokio::test]
async fn bytes_pass_until_one_way_is_cut_and_come_when_it_is_open_again() {
    let (net, mut stream) = net().await;
    assert!(echoed(&mut stream).await);
    for (from, to) in [(0, 1), (1, 0)] {
        net.set(from, to, Condition::CUT);
        assert!(!echoed(&mut stream).await);
        net.heal();
        assert!(back(&mut stream).await, "nothing is lost");
    }
}

#[tokio::test]
async fn a_connection_begun_while_cut_off_is_silent_and_closed_when_the_way_is_open() {
    let (net, mut first) = net().await;
    assert!(echoed(&mut first).await);
    net.set_around(0, Condition::CUT);
    let mut late = TcpStream::connect(first.peer_addr().expect("connected")).await.expect("the kernel accepts");
    assert!(!echoed(&mut late).await);
    net.heal();
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(5), late.read(&mut byte)).await.expect("it ends");
    assert!(!end.is_ok_and(|length| length > 0));
    assert!(echoed(&mut first).await, "the older one goes on");
}

#[tokio::test]
async fn a_slow_way_takes_its_time() {
    let (net, mut stream) = net().await;
    net.set(0, 1, Condition { delay: Duration::from_millis(100), ..Condition::GOOD });
    let started = Instant::now();
    assert!(echoed(&mut stream).await);
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[test]
fn loss_costs_retransmissions() {
    assert_eq!(resent(0.0), Duration::ZERO);
    assert_eq!(resent(1.0), RETRANSMISSION * 7);
}
