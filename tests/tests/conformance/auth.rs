//! Extended authentication, which the broker does not have.

use rollcall_proto::packet::{Auth, Packet, Version};
use rollcall_proto::properties::AuthProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::SOON;

use crate::broker::Broker;
use crate::bytes::encoded;

crate::cases![
    an_authentication_method_that_is_not_known_is_refused,
    without_a_method_the_connack_names_none_and_no_auth_comes,
    an_auth_without_a_method_in_the_connect_ends_the_connection,
];

/// [MQTT-4.12.0-1], [MQTT-3.1.4-2], [MQTT-3.2.2-7], [MQTT-3.2.2-8]
async fn an_authentication_method_that_is_not_known_is_refused(broker: Broker) {
    for data in [None, Some(bytes::Bytes::from_static(b"data"))] {
        let mut connect = broker.v5("asks");
        connect.properties.authentication_method = Some("SCRAM-SHA-256".into());
        connect.properties.authentication_data = data;
        let bytes = encoded(&[Packet::Connect(Box::new(connect))], Version::V5);
        let told = broker.refused(Version::V5, &bytes).await.map(|connack| connack.reason);
        assert!(matches!(told, Some(ReasonCode::BadAuthenticationMethod | ReasonCode::NotAuthorized)), "{told:?}");
    }
}

/// [MQTT-4.12.0-6]
async fn without_a_method_the_connack_names_none_and_no_auth_comes(broker: Broker) {
    let mut connect = broker.v5("asks");
    connect.username = Some("user".into());
    connect.password = Some(bytes::Bytes::from_static(b"password"));
    let (mut client, connack) = broker.open(connect).await;
    assert_eq!(connack.properties.authentication_method, None);
    assert_eq!(connack.properties.authentication_data, None);
    client.ping().await;
    let told = client.receive(std::time::Duration::ZERO).await;
    assert!(matches!(told, rollcall_tests::client::Received::Silence), "{told:?}");
}

/// [MQTT-4.12.0-7], [MQTT-4.13.1-1]
async fn an_auth_without_a_method_in_the_connect_ends_the_connection(broker: Broker) {
    let method = Some("SCRAM-SHA-256".into());
    for (reason, authentication_method) in [
        (ReasonCode::Success, None),
        (ReasonCode::ReAuthenticate, method.clone()),
        (ReasonCode::ContinueAuthentication, method),
    ] {
        let properties = AuthProperties { authentication_method, ..AuthProperties::default() };
        let mut client = broker.connect(broker.v5("asks")).await;
        client.send(&Packet::Auth(Box::new(Auth { reason, properties }))).await.expect("AUTH is sent");
        let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
        assert_eq!(told, Some(ReasonCode::ProtocolError), "{reason:?}");
    }
}
