import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONWriter;
import com.alibaba.otter.canal.connector.core.producer.MQMessageUtils;
import com.alibaba.otter.canal.instance.manager.CanalInstanceWithManager;
import com.alibaba.otter.canal.instance.manager.model.Canal;
import com.alibaba.otter.canal.instance.manager.model.CanalParameter;
import com.alibaba.otter.canal.protocol.ClientIdentity;
import com.alibaba.otter.canal.protocol.FlatMessage;
import com.alibaba.otter.canal.protocol.Message;
import com.alibaba.otter.canal.server.embedded.CanalServerWithEmbedded;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * CanalRunner MYSQL_PORT KAFKA TOPIC BINLOG_FILE BINLOG_POSITION [name=value ...]: Canal's embedded server, what its MQ
 * producers send produced to Kafka.
 *
 * <p>Settings: user, password (canal), filter (.*\..*), partitions (1) of the topic, hash (.*\..*:$pk$): how rows are spread,
 * gtid: the set to begin behind, by which messages have GTIDs.
 */
public class CanalRunner {
  public static void main(String[] arguments) throws Exception {
    Properties settings = new Properties();
    settings.put("user", "canal");
    settings.put("password", "canal");
    settings.put("filter", ".*\\..*");
    settings.put("partitions", "1");
    settings.put("hash", ".*\\..*:$pk$");
    for (String argument : List.of(arguments).subList(5, arguments.length)) {
      int equals = argument.indexOf('=');
      settings.put(argument.substring(0, equals), argument.substring(equals + 1));
    }
    String filter = settings.getProperty("filter");
    Canal canal = new Canal();
    canal.setId(1L);
    canal.setName("tidemill");
    canal.setCanalParameter(parameter(arguments, settings));
    CanalServerWithEmbedded server = CanalServerWithEmbedded.instance();
    server.setMetricsPort(0);
    server.setCanalInstanceGenerator(destination -> new CanalInstanceWithManager(canal, filter));
    server.start();
    server.start(canal.getName());
    ClientIdentity identity = new ClientIdentity(canal.getName(), (short) 1001, filter);
    server.subscribe(identity);
    System.err.println("subscribed");

    KafkaProducer<byte[], byte[]> producer = producer(arguments[1]);
    ThreadPoolExecutor threads = new ThreadPoolExecutor(1, 1, 1, TimeUnit.MINUTES, new LinkedBlockingQueue<>());
    int partitions = Integer.parseInt(settings.getProperty("partitions"));
    while (true) {
      Message message = server.getWithoutAck(identity, 1000, 100L, TimeUnit.MILLISECONDS);
      if (message.getId() == -1) continue;
      for (FlatMessage flat : MQMessageUtils.messageConverter(MQMessageUtils.buildMessageData(message, threads), message.getId())) {
        FlatMessage[] parts = partitions == 1
            ? new FlatMessage[] {flat}
            : MQMessageUtils.messagePartition(flat, partitions, settings.getProperty("hash"), false);
        for (int partition = 0; partition < parts.length; partition++) {
          if (parts[partition] == null) continue;
          byte[] value = JSON.toJSONBytes(parts[partition], JSONWriter.Feature.WriteNulls);
          producer.send(new ProducerRecord<>(arguments[2], partition, null, value)).get();
        }
      }
      server.ack(identity, message.getId());
    }
  }

  private static CanalParameter parameter(String[] arguments, Properties settings) {
    CanalParameter p = new CanalParameter();
    p.setSourcingType(CanalParameter.SourcingType.MYSQL);
    p.setMetaMode(CanalParameter.MetaMode.MEMORY);
    p.setStorageMode(CanalParameter.StorageMode.MEMORY);
    p.setIndexMode(CanalParameter.IndexMode.MEMORY);
    p.setDbAddresses(List.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]))));
    p.setDbUsername(settings.getProperty("user"));
    p.setDbPassword(settings.getProperty("password"));
    String gtid = settings.getProperty("gtid");
    String behind = gtid == null ? "" : ",\"gtid\":\"" + gtid + "\"";
    p.setPositions(List.of("{\"journalName\":\"" + arguments[3] + "\",\"position\":" + arguments[4] + behind + "}"));
    p.setGtidEnable(gtid != null);
    p.setSlaveId(7777L);
    p.setDetectingEnable(false);
    p.setTsdbEnable(false);
    p.setConnectionCharset("UTF-8");
    p.setConnectionCharsetNumber((byte) 33);
    p.setDefaultConnectionTimeoutInSeconds(10);
    p.setMemoryStorageBufferSize(1024);
    return p;
  }

  private static KafkaProducer<byte[], byte[]> producer(String kafka) {
    Properties p = new Properties();
    p.put("bootstrap.servers", kafka);
    p.put("enable.idempotence", "true");
    p.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    p.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    return new KafkaProducer<>(p);
  }
}
