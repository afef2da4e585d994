//! Framing, byte for byte, and answers that lie about their length.

use super::*;

/// Both halves of a header of an attribute: its length and its type, in the machine's order.
fn header(length: u16, kind: u16) -> Vec<u8> {
    [length.to_ne_bytes(), kind.to_ne_bytes()].concat()
}

#[test]
fn a_value_is_padded_and_its_length_says_nothing_of_it() {
    let attributes = Attributes::default().bytes(7, b"abcde").bytes(8, b"wxyz");
    let expected = [
        header(9, 7),
        b"abcde\0\0\0".to_vec(),
        header(8, 8),
        b"wxyz".to_vec(),
    ];
    assert_eq!(attributes.as_bytes(), expected.concat());
}

#[test]
fn a_number_is_in_network_order_and_a_text_ends_with_zero() {
    let attributes = Attributes::default().number(1, 0x0102_0304).text(2, "lo");
    let expected = [
        header(8, 1),
        vec![1, 2, 3, 4],
        header(7, 2),
        b"lo\0\0".to_vec(),
    ];
    assert_eq!(attributes.as_bytes(), expected.concat());
}

#[test]
fn attributes_in_an_attribute_are_flagged_and_counted_with_their_padding() {
    let inner = Attributes::default().bytes(1, &[6]);
    let outer = Attributes::default().nested(3, &inner);
    let expected = [header(12, 3 | 0x8000), header(5, 1), vec![6, 0, 0, 0]];
    assert_eq!(outer.as_bytes(), expected.concat());
}

#[test]
fn a_message_has_its_header_and_comes_back_as_it_was() {
    let bytes = [
        message(0x0a06, NLM_F_REQUEST | NLM_F_ACK, 7, b"abcde"),
        message(NLMSG_DONE, 0, 8, &0_i32.to_ne_bytes()),
    ]
    .concat();
    assert_eq!(bytes.len(), 24 + 20);
    assert_eq!(bytes[..4], 21_u32.to_ne_bytes());
    let replies = Reply::all(&bytes).unwrap();
    let expected = Reply {
        kind: 0x0a06,
        flags: 0x5,
        sequence: 7,
        body: b"abcde",
    };
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[0], expected);
    assert_eq!(replies[1].kind, NLMSG_DONE);
    assert_eq!(replies[1].errno(), Ok(0));
}

#[test]
fn an_error_is_told_as_a_positive_number() {
    let body = [(-1_i32).to_ne_bytes().as_slice(), &[0; 16]].concat();
    let bytes = message(NLMSG_ERROR, 0, 1, &body);
    assert_eq!(Reply::all(&bytes).unwrap()[0].errno(), Ok(1));
    let lowest = message(NLMSG_ERROR, 0, 1, &i32::MIN.to_ne_bytes());
    assert_eq!(Reply::all(&lowest).unwrap()[0].errno(), Ok(i32::MAX));
    let empty = message(NLMSG_ERROR, 0, 1, &[0, 0]);
    assert!(Reply::all(&empty).unwrap()[0].errno().is_err());
}

#[test]
fn received_attributes_are_found_by_type_whatever_their_flags() {
    let inner = Attributes::default().text(1, "nat");
    let attributes = Attributes::default()
        .number(5, 0xffff_ff9c)
        .nested(4, &inner)
        .bytes(9, &[1, 2, 3]);
    let received = Received::read(attributes.as_bytes()).unwrap();
    assert_eq!(received.number(5), Some(0xffff_ff9c));
    assert_eq!(received.nested(4).unwrap().text(1), Some("nat"));
    assert_eq!(received.bytes(9), Some([1, 2, 3].as_slice()));
    assert_eq!(received.values().count(), 3);
    // Of another length, or not there.
    assert_eq!(received.number(9), None);
    assert_eq!(received.number(6), None);
    assert_eq!(received.text(6), None);
    assert_eq!(received.nested(6), Ok(Received::default()));
}

#[test]
fn the_last_attribute_may_come_without_its_padding() {
    let bytes = [header(5, 1), vec![6]].concat();
    assert_eq!(
        Received::read(&bytes).unwrap().bytes(1),
        Some([6].as_slice())
    );
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let cut_off = [header(9, 1), vec![0; 4]].concat();
    assert!(Received::read(&cut_off).is_err());
    // Would be read for ever.
    assert!(Received::read(&header(0, 1)).is_err());
    assert!(Received::read(&[1, 0]).is_err());

    let whole = message(1, 0, 1, &[1, 2, 3, 4]);
    assert!(Reply::all(&whole[..whole.len() - 1]).is_err());
    assert!(Reply::all(&whole[..15]).is_err());
    let mut endless = whole;
    endless[..4].copy_from_slice(&0_u32.to_ne_bytes());
    assert!(Reply::all(&endless).is_err());
}
