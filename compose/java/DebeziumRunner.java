import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.TopicExistsException;

/**
 * DebeziumRunner MYSQL_PORT KAFKA STATE_DIR [name=value ...]: Debezium's engine, its changes produced as Kafka Connect would.
 *
 * <p>Own settings: runner.partitions (1) of the topics it makes. All others go to Debezium.
 */
public class DebeziumRunner {
  public static void main(String[] arguments) throws Exception {
    String kafka = arguments[1];
    Properties settings = defaults(arguments[0], arguments[2]);
    for (String argument : List.of(arguments).subList(3, arguments.length)) {
      int equals = argument.indexOf('=');
      settings.put(argument.substring(0, equals), argument.substring(equals + 1));
    }
    Topics topics = new Topics(kafka, Integer.parseInt(settings.remove("runner.partitions").toString()));
    KafkaProducer<String, String> producer = producer(kafka);
    DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
        .using(settings)
        .using((success, message, error) -> {
          System.err.println("engine ended: " + message + (error == null ? "" : " " + error));
          Runtime.getRuntime().halt(success ? 0 : 1);
        })
        .notifying((records, committer) -> {
          // A change is marked as read only when Kafka has it.
          Future<RecordMetadata> last = null;
          for (ChangeEvent<String, String> record : records) {
            topics.make(record.destination());
            last = producer.send(new ProducerRecord<>(record.destination(), record.key(), record.value()));
          }
          producer.flush();
          try {
            if (last != null) last.get();
          } catch (ExecutionException e) {
            throw new RuntimeException(e.getCause());
          }
          for (ChangeEvent<String, String> record : records) committer.markProcessed(record);
          committer.markBatchFinished();
        })
        .build();
    Thread thread = new Thread(engine, "engine");
    thread.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        engine.close();
        thread.join();
      } catch (Exception e) {
        System.err.println("while closing: " + e);
      }
    }));
    thread.join();
  }

  private static Properties defaults(String port, String state) {
    Properties p = new Properties();
    p.put("name", "tidemill");
    p.put("connector.class", "io.debezium.connector.mysql.MySqlConnector");
    p.put("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
    p.put("offset.storage.file.filename", state + "/offsets");
    p.put("offset.flush.interval.ms", "200");
    p.put("schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory");
    p.put("schema.history.internal.file.filename", state + "/history");
    p.put("database.hostname", "127.0.0.1");
    p.put("database.port", port);
    p.put("database.user", "root");
    p.put("database.password", "");
    p.put("database.server.id", "8181");
    p.put("topic.prefix", "dbz");
    p.put("poll.interval.ms", "50");
    p.put("provide.transaction.metadata", "true");
    p.put("snapshot.mode", "initial");
    p.put("key.converter.schemas.enable", "true");
    p.put("value.converter.schemas.enable", "true");
    p.put("runner.partitions", "1");
    return p;
  }

  private static KafkaProducer<String, String> producer(String kafka) {
    Properties p = new Properties();
    p.put("bootstrap.servers", kafka);
    p.put("enable.idempotence", "true");
    p.put("linger.ms", "5");
    p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    return new KafkaProducer<>(p);
  }

  /** Makes a topic before its first record, as Connect does. */
  private static class Topics {
    private final Admin admin;
    private final int partitions;
    private final Set<String> made = new HashSet<>();

    Topics(String kafka, int partitions) {
      Properties p = new Properties();
      p.put("bootstrap.servers", kafka);
      this.admin = Admin.create(p);
      this.partitions = partitions;
    }

    void make(String topic) throws InterruptedException {
      if (!made.add(topic)) return;
      // The transaction topic's order is what it is for.
      int count = topic.endsWith(".transaction") ? 1 : partitions;
      try {
        admin.createTopics(Set.of(new NewTopic(topic, Optional.of(count), Optional.empty()))).all().get();
      } catch (ExecutionException e) {
        if (!(e.getCause() instanceof TopicExistsException)) throw new RuntimeException(e.getCause());
      }
    }
  }
}
