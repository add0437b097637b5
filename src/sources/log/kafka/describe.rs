//! Topics with their ids, through librdkafka's admin call, which has no safe wrapper.
#![expect(unsafe_code, reason = "rdkafka does not wrap DescribeTopics, the one call that tells a topic's id")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as kafka;

use super::client::Client;

/// One topic as the brokers have it; `Err`: the code of why not.
pub struct Described {
    pub name: String,
    pub topic: Result<Topic, kafka::rd_kafka_resp_err_t>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// `None`: brokers before 2.8 have no ids.
    pub identity: Option<String>,
    /// Numbers, ascending.
    pub partitions: Vec<i32>,
    /// How many partitions have no leader now.
    pub leaderless: usize,
}

/// The id that brokers without ids give.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Frees what C gave.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Owned<T>, String> {
        NonNull::new(pointer).map(|p| Owned(p, free)).ok_or_else(|| "out of memory".to_string())
    }

    fn get(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the call that `free` belongs to, and is freed once.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Describes topics by name; an unknown name is an error of that topic alone.
pub fn describe(client: &Client, names: &[&str], timeout: Duration) -> Result<Vec<Described>, String> {
    let names: Vec<CString> =
        names.iter().map(|n| CString::new(*n)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let handle = rdkafka::consumer::Consumer::client(client).native_ptr();
    // SAFETY: the client outlives the call, the names outlive their collection (which copies them), and every pointer
    // that is read belongs to the event, which is freed after the last of them.
    unsafe {
        let queue = Owned::new(kafka::rd_kafka_queue_new(handle), kafka::rd_kafka_queue_destroy)?;
        let topics = kafka::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let topics = Owned::new(topics, kafka::rd_kafka_TopicCollection_destroy)?;
        let operation = kafka::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = kafka::rd_kafka_AdminOptions_new(handle, operation);
        let options = Owned::new(options, kafka::rd_kafka_AdminOptions_destroy)?;
        kafka::rd_kafka_AdminOptions_set_request_timeout(options.get(), milliseconds, std::ptr::null_mut(), 0);
        kafka::rd_kafka_DescribeTopics(handle, topics.get(), options.get(), queue.get());
        // The call itself ends at the request's timeout, with an event that says so.
        let event = kafka::rd_kafka_queue_poll(queue.get(), milliseconds.saturating_add(1000));
        let Some(event) = NonNull::new(event) else { return Err("no answer".to_string()) };
        let event = Owned(event, kafka::rd_kafka_event_destroy);
        let error = kafka::rd_kafka_event_error(event.get());
        if error != kafka::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(kafka::rd_kafka_event_error_string(event.get())));
        }
        let result = kafka::rd_kafka_event_DescribeTopics_result(event.get());
        if result.is_null() {
            return Err("the answer is of another kind".to_string());
        }
        let mut count = 0;
        let found = kafka::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        Ok((0..count).map(|i| described(*found.add(i))).collect())
    }
}

/// # Safety
/// The description belongs to an event that is alive.
unsafe fn described(description: *const kafka::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: as above; each array has the length that comes with it.
    unsafe {
        let name = text(kafka::rd_kafka_TopicDescription_name(description));
        let error = kafka::rd_kafka_error_code(kafka::rd_kafka_TopicDescription_error(description));
        if error != kafka::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Described { name, topic: Err(error) };
        }
        let id = kafka::rd_kafka_TopicDescription_topic_id(description);
        let identity = NonNull::new(id.cast_mut()).map(|id| text(kafka::rd_kafka_Uuid_base64str(id.as_ptr())));
        let mut count = 0;
        let infos = kafka::rd_kafka_TopicDescription_partitions(description, &mut count);
        let mut partitions: Vec<i32> =
            (0..count).map(|i| kafka::rd_kafka_TopicPartitionInfo_partition(*infos.add(i))).collect();
        partitions.sort_unstable();
        let without = |i: &usize| kafka::rd_kafka_TopicPartitionInfo_leader(*infos.add(*i)).is_null();
        let leaderless = (0..count).filter(without).count();
        let identity = identity.filter(|id| !id.is_empty() && id != NO_ID);
        Described { name, topic: Ok(Topic { identity, partitions, leaderless }) }
    }
}

/// # Safety
/// Null, or a C string that is alive.
unsafe fn text(pointer: *const c_char) -> String {
    match pointer.is_null() {
        true => String::new(),
        // SAFETY: as above.
        false => unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned(),
    }
}
