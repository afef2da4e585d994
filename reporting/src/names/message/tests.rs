//! Messages taken apart; whole ones are tried against a server with another implementation.

use super::*;

/// The answer 10.0.0.1 to the question for a.test, its record's name a pointer to the question.
fn answer() -> (Question, Vec<u8>) {
    let question = Question::new("a.test", Family::V4, 7).unwrap();
    let mut answer = question.message().to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x01");
    (question, answer)
}

#[test]
fn a_question_is_written_as_the_standard_has_it() {
    let question = Question::new("a.test.", Family::V6, 0x0102).unwrap();
    let expected = b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x1c\0\x01";
    assert_eq!(question.message(), expected);
}

#[test]
fn names_that_cannot_be_are_no_question() {
    let longest = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "x".repeat(61));
    assert!(Question::new(&longest, Family::V4, 1).is_some());
    for wrong in [
        "",
        ".",
        "a..b",
        ".a",
        "é",
        &format!("{longest}x"),
        &"x".repeat(64),
    ] {
        assert!(Question::new(wrong, Family::V4, 1).is_none(), "{wrong}");
    }
}

#[test]
fn the_answer_is_read_and_other_messages_are_not() {
    let (question, answer) = answer();
    let address = Answer::Addresses(vec![[10, 0, 0, 1].into()]);
    assert_eq!(question.read(&answer), Some(address.clone()));
    assert_eq!(question.read(question.message()), None);
    let other = Question::new("b.test", Family::V4, 7).unwrap();
    assert_eq!(other.read(&answer), None);
    let of_other_family = Question::new("a.test", Family::V6, 7).unwrap();
    assert_eq!(of_other_family.read(&answer), None);
    let in_capitals: Vec<u8> = answer.iter().map(u8::to_ascii_uppercase).collect();
    assert_eq!(question.read(&in_capitals), Some(address));
}

#[test]
fn codes_and_truncation_are_told_apart() {
    let (question, answer) = answer();
    let with = |index: usize, bits: u8| {
        let mut changed = answer.clone();
        changed[index] |= bits;
        question.read(&changed)
    };
    assert_eq!(with(2, 0x02), Some(Answer::Truncated));
    assert_eq!(with(3, 3), Some(Answer::Addresses(Vec::new())));
    assert_eq!(with(3, 5), Some(Answer::Failed(5)));
}

#[test]
fn what_is_cut_or_damaged_is_no_answer_and_no_panic() {
    let (question, answer) = answer();
    for length in 0..answer.len() {
        assert_eq!(question.read(&answer[..length]), None, "{length}");
    }
    for index in 0..answer.len() {
        for value in 0..=u8::MAX {
            let mut changed = answer.clone();
            changed[index] = value;
            let _ = question.read(&changed);
        }
    }
    // An address of a wrong length.
    let mut changed = answer.clone();
    let length = changed.len() - 5;
    changed[length] = 3;
    assert_eq!(question.read(&changed), None);
}
